"""The served graph's signatures: their names, inputs and outputs are a contract.

| signature | inputs | outputs |
|---|---|---|
| serving_default, match | image_bytes [N], text [M] | score, margin [K] |
| match_features | patch_features [N, P, F], text [M] | score, margin [K] |
| image_features | image_bytes [B] | patch_features [B, P, F], box [B, 4], box_found [B], image_vectors [B, D] |
| text_vectors | text [B] | text_vectors [B, D] |
| image_vectors | patch_features [B, P, F] | image_vectors [B, D] |
| category, subcategory | image_bytes [B], text [B] | labels, probabilities [B, C] |
| category_features, subcategory_features | patch_features, text [B] | the same |
| caption | image_bytes [B] | captions, scores [B, K] |
| caption_features | patch_features [B, P, F] | the same |
| explain | patch_features [B, P, F], text [B] | tokens, token_mask [B, t], attention [B, t, P] |
| info | | info_json [] |

What a model's checkpoints don't have is left out. docs/serving.md says more.
"""  # noqa: E501

import dataclasses
import types

import tensorflow as tf

from kaleido_tf.serving import explain, requests

DEFAULT = "serving_default"


@dataclasses.dataclass(frozen=True)
class Parts:
    """What is served.

    Attributes:
      line: `images.ImageLine`.
      tokenizer: `Tokenizer`.
      matching: `answers.Matching`.
      classifications: dict task -> `answers.Classification`.
      captioning: `answers.Captioning` or None.
    """

    line: object
    tokenizer: object
    matching: object
    classifications: dict = dataclasses.field(default_factory=dict)
    captioning: object = None


class ServedModel(tf.Module):
    """The module that is saved: variables, and a function for each signature.

    Args:
      parts: `Parts`.
      info_json: what `info` answers, str.
    """

    def __init__(self, parts, info_json):
        super().__init__(name="kaleido")
        models = [parts.matching, *parts.classifications.values()]
        models += [parts.captioning] if parts.captioning else []
        # The models themselves would be saved layer by layer.
        self._variables = [v for model in models for v in model.variables]
        self._line_variables = list(parts.line.variables)
        self._tokenizer = parts.tokenizer
        # Held where it isn't tracked: as signatures they are saved once, not twice.
        self._held = types.SimpleNamespace(signatures=make_signatures(parts, info_json))

    @property
    def signatures(self):
        """dict name -> tf.function, see `make_signatures`."""
        return self._held.signatures


def make_signatures(parts, info_json):
    """dict name -> tf.function with its input signature, see the table above.

    What starts with pictures calls the function of its features, and all of it the same
    image line: a graph holds each once.
    """
    line, matching = parts.line, parts.matching
    images = {"image_bytes": tf.TensorSpec([None], tf.string, name="image_bytes")}
    text = {"text": tf.TensorSpec([None], tf.string, name="text")}
    shape = [None, line.num_patches, line.feature_size]
    patches = {"patch_features": tf.TensorSpec(shape, name="patch_features")}
    look = _function(line, images)

    def features(image_bytes):
        found = look(image_bytes)
        if "image_vectors" in functions:
            answer = functions["image_vectors"](found["patch_features"])
            found = {**found, **answer}
        return found

    def why(patch_features, text):
        return explain.explain(matching, parts.tokenizer, patch_features, text)

    table = {
        "match_features": (matching.match, patches | text),
        "explain": (why, patches | text),
        "info": (lambda: {"info_json": tf.constant(info_json)}, {}),
    }
    if matching.config.contrastive_size:
        table["text_vectors"] = (_named("text_vectors", matching.text_vectors), text)
        by_image = _named("image_vectors", matching.image_vectors)
        table["image_vectors"] = (by_image, patches)
    for task, model in parts.classifications.items():
        table[f"{task}_features"] = (model.classify, patches | text)
    if parts.captioning:
        table["caption_features"] = (parts.captioning.caption, patches)
    functions = {name: _function(*row) for name, row in table.items()}
    functions["image_features"] = _function(features, images)
    for name in [n for n in table if n.endswith("_features")]:
        takes_text = "text" in [s.name for s in functions[name].input_signature]
        inputs = images | text if takes_text else images
        answer = _from_bytes(look, functions[name], name == "match_features")
        functions[name.removesuffix("_features")] = _function(answer, inputs)
    return {DEFAULT: functions["match"], **functions}


def _from_bytes(look, answer, pairs):
    """The answer of a signature of features, from pictures.

    Args:
      look: function of image_bytes: their features.
      answer: function of patch_features, and of text where it takes one.
      pairs: whether one picture or text may have many partners.
    """
    check = requests.require_pairs if pairs else requests.require_same

    def function(image_bytes, text=None):
        if text is None:
            return answer(look(image_bytes)["patch_features"])
        # Before anything is computed, and by the input's own name.
        with check(tf.size(image_bytes), tf.size(text), "image_bytes"):
            image_bytes = tf.identity(image_bytes)
        return answer(look(image_bytes)["patch_features"], text)

    return function


def _named(name, answer):
    return lambda *inputs: {name: answer(*inputs)}


def _function(answer, inputs):
    """A tf.function with one trace."""
    return tf.function(
        lambda *values: answer(*values),
        input_signature=list(inputs.values()),
        autograph=False,
    )
