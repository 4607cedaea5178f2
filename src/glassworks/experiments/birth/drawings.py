"""The figures of Birth, drawn from its measurements; each measurement that is missing leaves its figure out."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from glassworks.core.text import Text, say
from glassworks.evidence.claims import Evidence
from glassworks.evidence.measurements import Measurement
from glassworks.figures import (
    Axes,
    BarSeries,
    ColourScale,
    Dot,
    Figure,
    Heading,
    Matrix,
    Panel,
    Reference,
    Series,
    attention_map,
    bars,
    curves,
    dots,
    heatmap,
    panels,
    series_of,
)

STEP = say("training step")
ACCURACY = say("in-context accuracy")
SHARE = say("accuracy or recall")
# Colour and line of a quantity stay the same in every figure.
STYLES = {"accuracy/in_context": 0, "recall/output": 1, "recall/match": 2, "recall/position_64": 3}


def metric_name(metric: str) -> Text:
    """How a metric is called in a legend."""
    names = {
        "accuracy/in_context": say("in-context accuracy"),
        "recall/output": say("recall of W_O²"),
        "recall/match": say("recall of W_K²"),
        "recall/position_64": say("recall of W_K¹, t < 64"),
        "loss/global": say("global loss"),
        "loss/in_context": say("in-context loss"),
    }
    return names[metric]


def setting_name(setting: str) -> Text:
    """How a data setting is called in a legend."""
    names = {
        "frequent K=5": say("5 fixed, frequent"),
        "frequent K=1": say("1 fixed, frequent"),
        "rare K=5": say("5 fixed, rare"),
        "rare K=1": say("1 fixed, rare"),
        "random K=5": say("5 random"),
        "random K=1": say("1 random"),
    }
    return names[setting]


def frozen_name(frozen: str) -> Text:
    """How a freezing schedule is called."""
    names = {
        "none": say("nothing frozen"),
        "output": say("W_O² frozen"),
        "match": say("W_K² frozen"),
        "position": say("W_K¹ frozen"),
        "match+position": say("W_K¹ and W_K² frozen"),
        "output+position": say("W_O² and W_K¹ frozen"),
    }
    return names[frozen]


def draw(evidence: Evidence) -> list[Figure]:
    """Every figure whose measurements are at hand, in the order of the report."""
    painters: Sequence[tuple[tuple[str, ...], Callable[[Evidence], list[Figure]]]] = (
        (("formation",), _formation),
        (("attention_example",), _attention),
        (("formation", "counting"), _against_counting),
        (("memory_output", "memory_match", "memory_position"), _memories),
        (("position_recall",), _positions),
        (("freezing", "release"), _freezing),
        (("data",), _data),
        (("shift",), _shift),
        (("depth", "counting"), _depth),
        (("construction",), _construction),
        (("three_steps",), _three_steps),
        (("position_profile",), _profile),
    )
    return [figure for needs, paint in painters if all(n in evidence for n in needs) for figure in paint(evidence)]


def _watched(part: Measurement) -> list[Series]:
    """The curves of accuracy and the three recalls of one training."""
    return [series_of(part.at(metric=m), metric_name(m), style=style) for m, style in STYLES.items()]


def _formation(evidence: Evidence) -> list[Figure]:
    heading = Heading(
        "formation",
        say("The induction head forms: first the output memory, then the keys"),
        say(
            "Simplified two-layer model, K = 5 random triggers, loss on in-context tokens. Accuracy on tokens whose answer "
            "stands in the context, and the share of associations that each memory recalls (paper: figure 3)."
        ),
    )
    return [curves(heading, _watched(evidence["formation"]), Axes(STEP, SHARE, y_range=(0.0, 1.02)))]


def _attention(evidence: Evidence) -> list[Figure]:
    example = evidence["attention_example"]
    tokens = [str(label).split(" ", 1)[1] for label in example.coords["key"]]
    titles = (
        say("Layer 1 looks at the previous token"),
        say("Layer 2 looks at what followed this token before"),
    )
    caption = say(
        "Attention of the trained model on the beginning of a held-out sequence, queries down, keys across "
        "(paper: figure 2). Triggers of this sequence: {triggers}.",
        triggers=" ".join(repr(str(t)) for t in example.columns.get("triggers", "").split(" ") if t) or "-",
    )
    return [
        attention_map(
            Heading(f"attention-layer-{layer + 1}", titles[layer], caption),
            example.at(layer=layer).values,
            tokens,
        )
        for layer in (0, 1)
    ]


def _against_counting(evidence: Evidence) -> list[Figure]:
    counting, formation = evidence["counting"], evidence["formation"]
    rows: list[Dot] = []
    groups = {"in_context": say("all in-context tokens"), "in_context_no_copy": say("without self-copies")}
    for mask, group in groups.items():
        curve = formation.at(metric=f"accuracy/{mask}")
        rows.append(Dot(say("trained model"), curve.interval(step=curve.coords["step"][-1]), group))
        rows.append(Dot(say("most surprising count"), counting.interval(predictor="surprise", mask=mask), group))
        rows.append(Dot(say("most frequent so far"), counting.interval(predictor="frequency", mask=mask), group))
    heading = Heading(
        "against-counting",
        say("What counting alone would reach"),
        say(
            "The two rules look at no order at all; what they reach is no evidence for an induction head. A self-copy is a "
            "trigger whose output is itself: its sequence repeats one character to the end."
        ),
    )
    return [dots(heading, rows, Axes(ACCURACY, say("predictor"), x_range=(0.0, 1.0)))]


def _memories(evidence: Evidence) -> list[Figure]:
    names: tuple[tuple[str, Text, Text, Text], ...] = (
        (
            "memory_output",
            say("The memory W_O²: from attended token to output"),
            say("attended token"),
            say("output token"),
        ),
        (
            "memory_match",
            say("The memory W_K²: from token to its own trace"),
            say("query token"),
            say("token before the key"),
        ),
        (
            "memory_position",
            say("The memory W_K¹: from position to the one before"),
            say("query position"),
            say("key position"),
        ),
    )
    return [_memory(evidence[name], title, rows, columns) for name, title, rows, columns in names]


def _memory(map_: Measurement, title: Text, rows: Text, columns: Text) -> Figure:
    ask, answer = map_.dims
    heading = Heading(
        map_.name.replace("_", "-"),
        title,
        say(
            "Scores of all pairs after training (seed {seed}); a perfect memory is a bright diagonal.",
            seed=map_.columns.get("seed", "0"),
        ),
    )
    labels = [tuple(str(label) for label in map_.coords[dim]) for dim in (ask, answer)]
    matrix = Matrix(map_.values, labels[0], labels[1], rows, columns)
    return heatmap(heading, matrix, ColourScale(say("score"), "diverging"))


def _positions(evidence: Evidence) -> list[Figure]:
    heading = Heading(
        "position-recall",
        say("Early positions know their predecessor first"),
        say("Share of positions t whose strongest key in W_K¹ is t - 1, in blocks of eight positions, after training."),
    )
    series = [series_of(evidence["position_recall"], say("recall of W_K¹"), "position", style=3)]
    return [curves(heading, series, Axes(say("position t"), say("recall"), y_range=(0.0, 1.02)))]


def _freezing(evidence: Evidence) -> list[Figure]:
    frozen = evidence["freezing"]
    release = float(evidence["release"].values)
    heading = Heading(
        "freezing",
        say("Holding memories back: W_O² has to come first"),
        say(
            "Each panel holds the named memories at their random start until the dashed line (paper: figure 3). Without W_O² "
            "the keys learn nothing; with frozen keys W_O² is learned and waits."
        ),
    )
    plots = [Panel(frozen_name(str(s)), tuple(_watched(frozen.at(frozen=s)))) for s in frozen.coords["frozen"]]
    line = Reference(say("release"), release, "vertical")
    return [panels(heading, plots, Axes(STEP, SHARE, y_range=(0.0, 1.02), references=(line,)))]


def _data(evidence: Evidence) -> list[Figure]:
    data = evidence["data"]
    settings = [str(s) for s in data.coords["setting"]]
    accuracy = Heading(
        "data-accuracy",
        say("How the triggers are chosen decides how fast the head forms"),
        say("Simplified model with feed-forward W_F, loss on all tokens (paper: figure 4, left)."),
    )
    losses = Heading(
        "global-first",
        say("Global bigrams are learned before the induction head"),
        say(
            "K = 5 random triggers, loss on all tokens: mean loss on global and on in-context tokens (paper: figure 4)."
        ),
    )
    recalls = Heading(
        "data-recalls",
        say("Memories under each choice of triggers"),
        say("As above, with the recall of each memory (paper: appendix, figure 5)."),
    )
    bigrams = Heading(
        "feedforward-memory",
        say("The feed-forward stores the global bigrams"),
        say(
            "Divergence of what W_F alone predicts for a bare token from the bigram law, mean over tokens that are no fixed "
            "trigger (paper: figure 4, right)."
        ),
    )
    divergences = [
        series_of(data.at(setting=s, metric="recall/feedforward_kl"), setting_name(s), style=settings.index(s))
        for s in settings
    ]
    by_setting = [series_of(data.at(setting=s, metric="accuracy/in_context"), setting_name(s)) for s in settings]
    fast_and_slow = [
        series_of(data.at(setting="random K=5", metric=m), metric_name(m)) for m in ("loss/global", "loss/in_context")
    ]
    return [
        curves(losses, fast_and_slow, Axes(STEP, say("loss (nats per token)"))),
        curves(accuracy, by_setting, Axes(STEP, ACCURACY, y_range=(0.0, 1.02))),
        curves(bigrams, divergences, Axes(STEP, say("KL divergence (nats)"))),
        panels(
            recalls,
            [Panel(setting_name(s), tuple(_watched(data.at(setting=s)))) for s in settings],
            Axes(STEP, SHARE, y_range=(0.0, 1.02)),
        ),
    ]


def _shift(evidence: Evidence) -> list[Figure]:
    table = evidence["shift"]
    names = {"uniform": say("uniform outputs"), "bigram": say("bigram outputs")}
    heading = Heading(
        "shift",
        say("Diverse outputs in training carry over, bigram outputs do not"),
        say(
            "In-context accuracy on held-out sequences whose outputs follow the same or the other law (paper: figure 4, centre)."
        ),
    )
    groups = [names[str(t)] for t in table.coords["trained"]]
    series = [
        BarSeries(
            say("tested on {law}", law=names[str(tested)]),
            tuple(table.interval(trained=trained, tested=tested) for trained in table.coords["trained"]),
        )
        for tested in table.coords["tested"]
    ]
    return [bars(heading, groups, series, Axes(say("law of outputs in training"), ACCURACY, y_range=(0.0, 1.02)))]


def _depth(evidence: Evidence) -> list[Figure]:
    depth = evidence["depth"].at(metric="accuracy/in_context")
    counting = evidence["counting"].at(predictor="surprise", mask="in_context").interval().mean
    heading = Heading(
        "depth",
        say("One layer counts, two layers look back"),
        say(
            "Full transformer (4 heads, feed-forward, layer norm), K = 5 random triggers, loss on all tokens (paper: section 3)."
        ),
    )
    names = {1: say("one layer"), 2: say("two layers")}
    series = [series_of(depth.at(layers=n), names[n]) for n in (1, 2)]
    reference = Reference(say("best counting rule"), counting)
    return [curves(heading, series, Axes(STEP, ACCURACY, y_range=(0.0, 1.02), references=(reference,)))]


def _construction(evidence: Evidence) -> list[Figure]:
    built = evidence["construction"]
    names = {
        "fixed, triggers only": say("fixed triggers, only they are stored"),
        "fixed, all tokens": say("fixed triggers, all tokens stored"),
        "random, all tokens": say("random triggers, all tokens stored"),
    }
    heading = Heading(
        "construction",
        say("The induction head written by hand, with no training"),
        say(
            "W_K¹, W_K² and W_O² set to sums of outer products (K = 5). Cross-talk between the stored pairs falls with the "
            "width (paper: section 4)."
        ),
    )
    series = [series_of(built.at(variant=v), names[str(v)], "width") for v in built.coords["variant"]]
    return [curves(heading, series, Axes(say("width d"), ACCURACY, y_range=(0.0, 1.02)))]


def _three_steps(evidence: Evidence) -> list[Figure]:
    steps = evidence["three_steps"]
    names = {
        "recall/output": say("recall of W_O²"),
        "recall/match": say("recall of W_K²"),
        "recall/position": say("recall of W_K¹"),
        "accuracy": say("accuracy"),
    }
    after = {
        "start": say("start"),
        "output": say("step on W_O²"),
        "match": say("step on W_K²"),
        "position": say("step on W_K¹"),
    }
    titles = {
        "restricted": say("Three gradient steps build the head (restricted streams)"),
        "unrestricted": say("The same three steps on unrestricted streams"),
    }
    captions = {
        "restricted": say(
            "Layer-1 scores see positions only, layer-2 queries and values see tokens only, keys see what layer 1 wrote "
            "(paper: section 6; N = 16 tokens, T = 24)."
        ),
        "unrestricted": say(
            "Every part reads the whole residual stream: W_O² and W_K² also pick up positions, and the step on W_K¹ no longer "
            "finds the previous token."
        ),
    }
    figures: list[Figure] = []
    for version in ("restricted", "unrestricted"):
        series = [
            BarSeries(name, tuple(steps.interval(version=version, after=a, metric=m) for a in after))
            for m, name in names.items()
        ]
        heading = Heading(f"three-steps-{version}", titles[version], captions[version])
        figures.append(bars(heading, list(after.values()), series, Axes(say("after"), SHARE, y_range=(0.0, 1.02))))
    return figures


def _profile(evidence: Evidence) -> list[Figure]:
    profile = evidence["position_profile"]
    heading = Heading(
        "position-profile",
        say("Why early positions come first"),
        say("Strength of the first step on W_K¹ at each position, measured and as the theory predicts; both sum to 1."),
    )
    series = [
        series_of(profile.at(source="measured"), say("measured"), "position"),
        series_of(profile.at(source="predicted"), say("predicted: P(t_o = t) / t"), "position"),
    ]
    return [curves(heading, series, Axes(say("position t"), say("share of the step")))]
