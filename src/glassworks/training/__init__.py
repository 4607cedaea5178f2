"""From specs to trained models: one loop, and the store that keeps what was trained by its digest."""
