"""The line from products to shards: plan, pipeline, writer, receipts."""
