"""Which products share a shard: by shard number and product id alone."""

import pathlib

from data_prep import sources
from data_prep.shards import shard_plan


def test_planning_shards():
    products = [
        sources.Product(
            f"p{n}", f"i{n}", "", "a", "", "", "train" if n else "validation"
        )
        for n in range(12)
    ]
    plan = shard_plan.plan_shards(products, "train", 4, "out")
    names = [pathlib.Path(path).name for path, _ in plan]
    assert names == [f"train-0000{n}-of-00003.tfrecord" for n in range(3)]
    assert [len(part) for _, part in plan] == [4, 4, 3]
    dealt = [product.image_id for _, part in plan for product in part]
    assert sorted(dealt) == sorted(f"i{n}" for n in range(1, 12))
    assert dealt != [f"i{n}" for n in range(1, 12)]  # views of a product part company
    assert plan == shard_plan.plan_shards(products, "train", 4, "out")
    assert plan != shard_plan.plan_shards(products, "train", 4, "out", seed=1)
