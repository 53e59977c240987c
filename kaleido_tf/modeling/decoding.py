"""Captions out of a captioner: beam search, greedy, or all places at once.

In graph and batched; the loops are tf-models-official's. The length of a reference is
never looked at: a caption ends where the model says [SEP], or after `max_length`.
"mask_all" is what the paper's author named; docs/tasks.md has the protocol.
"""

import dataclasses

import tensorflow as tf

from kaleido_tf.modeling import decoding_search, encoder

METHODS = ("beam", "greedy", "mask_all")
# How the next token is asked for: by the token before it, or by a [MASK] in its place.
QUESTIONS = ("next_word", "masked")


@dataclasses.dataclass(frozen=True)
class DecodingSettings:
    """How captions are made.

    Attributes:
      method: "beam", "greedy", or "mask_all": one pass over a text of [MASK]s.
      objective: how the model was trained, "next_word" or "masked"; the latter also
        suits weights that were only pre-trained. "mask_all" doesn't read it.
      beam_size: hypotheses kept by "beam".
      max_length: tokens of a caption at most, [SEP] counted and [CLS] not. A model
        knows no place after its `text_length - 1`, so this is cut to it.
      length_penalty: alpha of the divisor ((5 + length) / 6) ** alpha of a caption's
        log probability (Wu et al., 2016); 0 favours short captions.
      use_cache: False computes the whole sequence at every step, for comparison.

    Raises:
      ValueError: an unknown method or objective, or a number below its least.
    """

    method: str = "beam"
    objective: str = "next_word"
    beam_size: int = 5
    max_length: int = 64
    length_penalty: float = 0.6
    use_cache: bool = True

    def __post_init__(self):
        for name, known in (("method", METHODS), ("objective", QUESTIONS)):
            if getattr(self, name) not in known:
                raise ValueError(
                    f"`{name}` should be one of {known}. "
                    f"Received: {getattr(self, name)!r}"
                )
        for name, least in (("beam_size", 1), ("max_length", 1), ("length_penalty", 0)):
            if getattr(self, name) < least:
                raise ValueError(
                    f"`{name}` should be at least {least}. "
                    f"Received: {getattr(self, name)}"
                )

    @property
    def attention(self):
        """What `build_captioner` has to be given for this method: str."""
        whole = self.method == "mask_all"
        return "bidirectional" if whole else "sequence_to_sequence"


class CaptionDecoder(tf.Module):
    """Image patches -> captions; can be saved as a SavedModel.

    Args:
      captioner: model of `build_captioner(config, settings.attention)`.
      config: `KaleidoConfig`.
      tokenizer: `Tokenizer`; its special tokens are never part of a caption.
      settings: `DecodingSettings`.

    Attributes:
      max_length: L, tokens of a caption at most.
      num_captions: K, captions of an image: `beam_size` of a beam search, else 1.
      decode: the tf.function, see `_decode`; one trace for any number of images.

    Raises:
      ValueError: the captioner has another attention than the method's, the tokenizer
        another vocabulary than `config`, or the beam is wider than the vocabulary.

    Example:
      >>> settings = DecodingSettings(beam_size=5)
      >>> captioner = build_captioner(config, settings.attention)
      >>> decoder = CaptionDecoder(captioner, config, tokenizer, settings)
      >>> captions = decoder.decode(patch_features, patch_locations)
      >>> tokenizer.decode(captions["caption_ids"][0, 0])
      "navy cotton shirt"
    """

    def __init__(self, captioner, config, tokenizer, settings):
        super().__init__(name="caption_decoder")
        self.max_length = min(settings.max_length, config.text_length - 1)
        self.num_captions = settings.beam_size if settings.method == "beam" else 1
        _check_captioner(captioner, settings)
        _check_vocabulary(config, tokenizer, self.num_captions)
        # The model itself would be saved layer by layer; its variables are enough.
        self._variables = captioner.weights
        tokens = decoding_search.Tokens(tokenizer)
        make = {"mask_all": _MaskAll}.get(settings.method, decoding_search.WordByWord)
        self._method = make(captioner, config, tokens, settings, self.max_length)
        patches = [None, config.num_patches]
        self.decode = tf.function(
            self._decode,
            autograph=False,
            input_signature=[
                tf.TensorSpec(
                    [*patches, config.patch_feature_size], name="patch_features"
                ),
                tf.TensorSpec([*patches, 5], name="patch_locations"),
            ],
        )

    def _decode(self, patch_features, patch_locations):
        """Captions of a batch of images, best first.

        Args:
          patch_features: float32 [B, P, F].
          patch_locations: float32 [B, P, 5].

        Returns:
          dict: `caption_ids` int32 [B, K, L], without [CLS] and [SEP], filled up with
          [PAD]; `caption_scores` float32 [B, K], the log probability of pieces and
          [SEP] divided by the length penalty, -inf beside an empty caption where the
          search ended with fewer than K.
        """
        ids, scores = self._method(patch_features, patch_locations)
        return {
            "caption_ids": tf.ensure_shape(
                ids, [None, self.num_captions, self.max_length]
            ),
            "caption_scores": tf.ensure_shape(scores, [None, self.num_captions]),
        }


def _check_captioner(captioner, settings):
    mask = captioner.get_layer("encoder").get_layer("attention_mask")
    causal = isinstance(mask, encoder.SequenceToSequenceMask)
    if causal != (settings.attention == "sequence_to_sequence"):
        raise ValueError(
            f'`captioner` should have the attention "{settings.attention}" for '
            f'method="{settings.method}". Received one with {type(mask).__name__} '
            "(use build_captioner(config, settings.attention))"
        )


def _check_vocabulary(config, tokenizer, num_captions):
    if tokenizer.vocab_size != config.vocab_size:
        raise ValueError(
            f"`tokenizer` should have the config's {config.vocab_size} pieces. "
            f"Received one with {tokenizer.vocab_size}"
        )
    # The first step has one hypothesis, out of whose tokens 2 K are taken.
    most = (config.vocab_size - len(tokenizer.special_ids)) // 2
    if num_captions > most:
        raise ValueError(
            f"`beam_size` should be at most {most}, half of the vocabulary's ordinary "
            f"pieces. Received: {num_captions}"
        )


def mask_all_inputs(batch, text_length, tokenizer):
    """[CLS], a [MASK] at every other place and [SEP], whatever the text's length.

    Args:
      batch: number of rows.
      text_length: T.
      tokenizer: `Tokenizer`, or anything with `cls_id`, `mask_id`, `sep_id`.

    Returns:
      dict of int32 [batch, T]: `input_word_ids`, `input_mask`, `input_type_ids`.
    """
    middle = [tokenizer.mask_id] * (text_length - 2)
    row = tf.constant([tokenizer.cls_id, *middle, tokenizer.sep_id], tf.int32)
    ids = tf.tile(row[None], [batch, 1])
    return {
        "input_word_ids": ids,
        "input_mask": tf.ones_like(ids),
        "input_type_ids": tf.zeros_like(ids),
    }


class _MaskAll:
    """The best piece of every place at once, up to the first [SEP] among them."""

    def __init__(self, captioner, config, tokens, settings, max_length):
        self._captioner, self._tokens = captioner, tokens
        self._text_length, self._max_length = config.text_length, max_length
        self._alpha = settings.length_penalty

    def __call__(self, features, locations):
        text = mask_all_inputs(tf.shape(features)[0], self._text_length, self._tokens)
        inputs = {**text, "patch_features": features, "patch_locations": locations}
        logits = self._captioner(inputs, training=False)["caption_logits"]
        # [CLS] and the [SEP] at the end are given: [B, T, V] -> [B, T - 2, V]
        is_first = tf.range(self._text_length - 2)[:, None] == 0
        logits = self._tokens.allowed(logits[:, 1:-1], is_first)
        best, ids = tf.math.top_k(tf.nn.log_softmax(logits))
        ids = tf.pad(ids[..., 0], [[0, 0], [0, 1]], constant_values=self._tokens.sep_id)
        best = tf.pad(best[..., 0], [[0, 0], [0, 1]])
        ids, length, _ = decoding_search.cut(ids[:, : self._max_length], self._tokens)
        counts = tf.sequence_mask(length, self._max_length, tf.float32)
        score = tf.reduce_sum(best[:, : self._max_length] * counts, axis=1)
        score /= decoding_search.length_norm(length, self._alpha)
        return ids[:, None], score[:, None]
