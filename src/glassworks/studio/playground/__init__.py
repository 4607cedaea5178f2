"""The playground's small network: data and first weights from a seed's text, training in slices, frames for the page."""
