import pytest

from glassworks.anatomy import Site, all_sites, choose_sites, find_anatomy, parse_site
from glassworks.core.errors import InvalidInput, UnknownName
from tests.families import shared

ANATOMY = find_anatomy(shared("gpt2"))
NEOX = find_anatomy(shared("neox"))


@pytest.mark.parametrize(
    ("given", "name"),
    [
        ("embed", "embed"),
        ("hook_embed", "embed"),
        ("pos_embed", "positions"),
        ("hook_pos_embed", "positions"),
        ("blocks.1.hook_resid_pre", "layers.1.in"),
        ("blocks.1.hook_resid_mid", "layers.1.mid"),
        ("blocks.1.hook_resid_post", "layers.1.out"),
        ("blocks.2.hook_in", "layers.2.in"),
        ("blocks.2.hook_out", "layers.2.out"),
        ("blocks.0.attn.hook_q", "layers.0.mixer.q"),
        ("blocks.0.attn.hook_k", "layers.0.mixer.k"),
        ("blocks.0.attn.hook_v", "layers.0.mixer.v"),
        ("blocks.0.attn.hook_z", "layers.0.mixer.z"),
        ("blocks.0.attn.hook_pattern", "layers.0.mixer.pattern"),
        ("blocks.0.attn.hook_attn_scores", "layers.0.mixer.scores"),
        ("blocks.0.hook_attn_out", "layers.0.mixer.out"),
        ("blocks.0.hook_mlp_out", "layers.0.feedforward.out"),
        ("blocks.0.mlp.hook_pre", "layers.0.feedforward.pre"),
        ("blocks.0.mlp.hook_post", "layers.0.feedforward.post"),
        ("ln_final", "norm.out"),
        ("ln_final.hook_normalized", "norm.out"),
        ("unembed", "logits"),
        (("resid_post", 2), "layers.2.out"),
        (("resid_pre", -1), "layers.2.in"),
        (("pattern", 1, "attn"), "layers.1.mixer.pattern"),
        (("pre", 0, "mlp"), "layers.0.feedforward.pre"),
        (("out", 0, "attn"), "layers.0.mixer.out"),
        ("layers.-1.mixer.out", "layers.2.mixer.out"),
    ],
)
def test_every_spelling_means_the_site_it_should(given: str | tuple[str | int, ...], name: str) -> None:
    assert parse_site(given, ANATOMY).name == name


def test_canonical_names_and_parsing_are_inverse() -> None:
    sites = all_sites(ANATOMY)
    assert len(sites) == 4 + 3 * 15
    for site in sites:
        for spelling in site.spellings:
            assert parse_site(spelling, ANATOMY) == site


def test_a_misspelt_site_gets_the_nearest_name() -> None:
    with pytest.raises(UnknownName) as problem:
        parse_site("blocks.1.hook_resid_pos", ANATOMY)
    assert problem.value.nearest == "blocks.1.hook_resid_post"


def test_a_site_that_this_model_lacks_says_why() -> None:
    with pytest.raises(InvalidInput, match="parallel block"):
        parse_site("layers.0.mid", NEOX)
    with pytest.raises(InvalidInput, match="no position embedding"):
        parse_site("pos_embed", NEOX)
    with pytest.raises(InvalidInput, match="no layer 3"):
        parse_site("layers.3.in", ANATOMY)


def test_globs_lists_and_tests_choose_sites() -> None:
    wanted = ("layers.0.mixer.pattern", "layers.1.mixer.pattern", "layers.2.mixer.pattern")
    for names in ("*.mixer.pattern", "blocks.*.attn.hook_pattern", lambda name: name.endswith("hook_pattern")):
        assert tuple(site.name for site in choose_sites(names, ANATOMY)) == wanted
    both = choose_sites(["embed", ("resid_post", 0), "layers.0.out"], ANATOMY)
    assert [site.name for site in both] == ["embed", "layers.0.out"]
    assert choose_sites(None, ANATOMY) == all_sites(ANATOMY)
    assert choose_sites([], ANATOMY) == ()
    with pytest.raises(UnknownName):
        choose_sites("*.no_such_thing", ANATOMY)


def test_a_raw_module_path_is_a_site() -> None:
    modules = {"transformer.h.1.mlp.c_fc"}
    site = parse_site("transformer.h.1.mlp.c_fc", ANATOMY, modules)
    assert site.tap is not None
    assert site.tap.side == "out"
    assert parse_site("transformer.h.1.mlp.c_fc.in", ANATOMY, modules).name == "transformer.h.1.mlp.c_fc.in"
    assert Site("in", 0) < Site("in", 1)


@pytest.mark.parametrize(
    ("glob", "names"),
    [
        ("layers.*.out", ["layers.0.out", "layers.1.out", "layers.2.out"]),
        ("layers.1.**", [site.name for site in all_sites(ANATOMY) if site.layer == 1]),
        ("blocks.*.hook_resid_post", ["layers.0.out", "layers.1.out", "layers.2.out"]),
        ("*hook_pattern", ["layers.0.mixer.pattern", "layers.1.mixer.pattern", "layers.2.mixer.pattern"]),
        ("layers.[!12].mixer.z", ["layers.0.mixer.z"]),
        ("layers.[12].mi?", ["layers.1.mid", "layers.2.mid"]),
        ("*", [site.name for site in all_sites(ANATOMY)]),
    ],
)
def test_a_star_stays_between_dots_two_cross_them_and_one_in_front_is_any_beginning(
    glob: str, names: list[str]
) -> None:
    assert [site.name for site in choose_sites(glob, ANATOMY)] == names


@pytest.mark.parametrize("given", ["blocks.1.hook_resid_pos", "layers.*.oot", "nothing like it"])
def test_an_unknown_site_names_a_few_not_all(given: str) -> None:
    with pytest.raises(UnknownName) as problem:
        choose_sites(given, ANATOMY)
    assert 1 <= len(problem.value.known) <= 5


@pytest.mark.parametrize(
    ("word", "pattern"),
    [("pattern", "layers.*.mixer.pattern"), ("resid_post", "layers.*.out"), ("mixer.z", "layers.*.mixer.z")],
)
def test_a_plain_word_is_answered_with_the_two_forms_that_name_layers(word: str, pattern: str) -> None:
    with pytest.raises(UnknownName) as problem:
        choose_sites(word, ANATOMY)
    assert str((word, 0)) in str(problem.value)
    assert repr(pattern) in str(problem.value)
    assert len(choose_sites(pattern, ANATOMY)) == ANATOMY.depth
    assert parse_site((word, 0), ANATOMY).layer == 0
