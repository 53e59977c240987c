import tf_keras

from kaleido_tf.config import KaleidoConfig
from kaleido_tf.data.input_pipeline import PretrainingData
from kaleido_tf.modeling import build_pretrainer
from kaleido_tf.training import optimization
from kaleido_tf.training.trainer import PretrainingModel


def test_a_batch_that_is_seen_often_is_learnt(make_data_set, tokenizer, tmp_path):
    info = make_data_set(tmp_path / "data")
    config = KaleidoConfig.preset(
        "tiny",
        hidden_size=32,
        intermediate_size=32,
        vocab_size=info.vocab_size,
        patch_feature_size=info.feature_size,
        patch_arm=info.patch_arm,
        text_length=12,
        feature_dropout=0.0,
    )
    data = PretrainingData(info, tokenizer, config, batch_size=8)
    batch = data.training_dataset().take(1).cache()
    tf_keras.utils.set_random_seed(0)
    model = PretrainingModel(build_pretrainer(config), config)
    model.compile(optimization.make_optimizer(5e-3, 1000, 0))
    before = model.evaluate(batch, verbose=0, return_dict=True)
    model.fit(batch.repeat(), steps_per_epoch=60, verbose=0)
    after = model.evaluate(batch, verbose=0, return_dict=True)
    for task in ("mlm", "itm", "rotation", "jigsaw", "camouflage", "grey", "blank"):
        assert after[f"loss/{task}"] < 0.6 * before[f"loss/{task}"], task
    assert after["accuracy/jigsaw"] == after["accuracy/itm"] == 1.0
