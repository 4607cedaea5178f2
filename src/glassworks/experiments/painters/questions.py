"""The eight questions of the paper and four more: what was answered, what is measured here, what that does not show."""

from __future__ import annotations

from dataclasses import dataclass

from glassworks.core.text import Text, say


@dataclass(frozen=True)
class Question:
    """A section of the report: the question, the paper's answer, the measurement, its claims and figures, its limit."""

    key: str
    asks: Text
    answered: Text
    measured: Text
    leaves_open: Text
    claims: tuple[str, ...] = ()
    figures: tuple[str, ...] = ()


QUESTIONS: tuple[Question, ...] = (
    Question(
        "question-1",
        say("1. Do layers share one representation space?"),
        say("The middle ones do: any one of them can go or change places; the first and the last cannot (figures 2 and 3)."),
        say(
            "Each layer left out and each pair of neighbours exchanged, and the similarity of states in four definitions: flat as published, and token by token."
        ),
        say(
            "Alike states are not proof of one space: a layer may read directions that a cosine hardly sees, and the flat cosine is decided by a single long token where there is one."
        ),
        ("same-space", "cosine-plateau", "cosine-per-token"),
        ("single-layers", "similarity", "sinks"),
    ),
    Question(
        "question-2",
        say("2. Are all layers needed?"),
        say("No: a few middle layers can be left out without catastrophe (figures 4 and 12)."),
        say("The middle left out for every start, and every block of neighbouring layers left out or run twice."),
        say(
            "The best block is chosen on the text it is shown on, so its score is flattered; nats on one kind of text say little about knowledge or reasoning."
        ),
        ("some-can-go",),
        ("where-to-cut", "dropped", "repeated"),
    ),
    Question(
        "question-3",
        say("3. Do the middle layers all do the same?"),
        say("No: the centre layer in place of all of them is the worst of all strategies (figure 5)."),
        say(
            "The centre layer repeated for every start, and the same with each update divided by the number of repeats: if that does far less harm, it was the growing norm and not the function."
        ),
        say("Only the centre layer is repeated; another one might do better."),
        ("not-the-same",),
        ("each-strategy", "variants"),
    ),
    Question(
        "question-4",
        say("4. Does their order matter?"),
        say("Somewhat: random order does less harm than reverse, and both less than leaving the layers out (figures 6 and 7)."),
        say("Reverse and random orders for every start, and orders with a given number of inversions at three starts."),
        say("Inversions are one measure of disorder; how far each layer moves is another, and both grow together here."),
        ("random-beats-reverse", "order-beats-skip", "inversions"),
        ("disorder",),
    ),
    Question(
        "question-5",
        say("5. Can they run in parallel?"),
        say("Yes, except for mathematics: better than leaving them out, worse than the reverse order (figure 8, GSM8K)."),
        say(
            "The mean of the middle's outputs for every start; and tokens decoded one by one with the published code's averaged cache and with an exact one."
        ),
        say(
            "GSM8K itself is not scored: its exception rests on generated text, which the published code reads through the averaged cache."
        ),
        ("parallel-works", "parallel-below-reverse", "averaged-cache"),
        ("equal-depth", "caches"),
    ),
    Question(
        "question-6",
        say("6. Does the order matter more for some tasks?"),
        say("Yes: GSM8K and ARC fall first, HellaSwag and WinoGrande last (figures 4, 6 and 8)."),
        say("The strategies on benchmarks, each normalised between chance and the whole model."),
        say(
            "A small model is hardly better than chance on some of them, and with few questions the intervals are wide; such a benchmark says nothing about falling first."
        ),
        ("tasks-differ",),
        ("each-task", "all-in-one-tasks"),
    ),
    Question(
        "question-7",
        say("7. Does looping help the parallel layers?"),
        say("Yes: three loops are clearly better than one, and the best number grows with the number of layers (figures 9 and 10)."),
        say(
            "A grid of loop counts for every start. Were updates small, K loops would equal one step with K times the mean update; so single scaled steps stand beside it."
        ),
        say("Each K and each factor is chosen on the windows it is shown on, and the grid ends somewhere."),
        ("looping-helps", "best-loops", "more-than-rescaling"),
        ("loop-map", "rescaling"),
    ),
    Question(
        "question-8",
        say("8. Which variant does the least harm?"),
        say("Looped parallel, then random order; repeating the centre layer does the most (figure 11)."),
        say("The areas under all six curves, on running text, and their order against the published one."),
        say(
            "An area mixes small and large middles, and equal M is neither equal compute nor equal depth: looping runs more layers, leaving out fewer."
        ),
        ("ranking",),
        ("all-in-one", "equal-compute"),
    ),
    Question(
        "sink-study",
        say("Ours: is it the attention sink?"),
        say("The paper does not ask. In many models one early layer makes the first token very long and late ones shorten it again; a middle that holds such a layer breaks this."),
        say(
            "All strategies again with the layers that write and erase the sink kept in place, and a control that keeps as many other layers."
        ),
        say(
            "Keeping a layer also leaves fewer to rearrange: read the gain beside the control's. Whether larger models behave alike is not tested."
        ),
        ("sink-carries",),
        ("protected",),
    ),
    Question(
        "encoder-study",
        say("And an encoder?"),
        say("The same order of strategies for BERT, fine-tuned or frozen with a trained classifier (section 3.8, appendix A.9)."),
        say("Retrieval with an encoder that is not trained at all, and linear classifiers on its vectors under each plan."),
        say("At laptop scale a sentence encoder of six layers, whose middle has five at most; nothing is fine-tuned, so the paper's main protocol for BERT is not repeated."),
        ("encoder-looped", "frozen-classifier"),
        ("encoder", "encoder-loops", "classifiers"),
    ),
    Question(
        "healing-study",
        say("Ours: can a cut be healed?"),
        say("Full fine-tuning after leaving layers out helps below some 30 % (appendix A.2)."),
        say("A short low-rank training of the layers that are left, judged on text that it was not trained on."),
        say("Part of the gain is getting used to the text: read it beside the whole model after the same training."),
        ("healing",),
        ("healing",),
    ),
    Question(
        "encoder-decoder-study",
        say("Ours: and an encoder-decoder?"),
        say("The paper has none."),
        say("The strategies on either stack, scored by the titles of articles that are given to read."),
        say("One small model, tuned for titles of another kind."),
        (),
        ("stack-encoder", "stack-decoder"),
    ),
)  # fmt: skip
