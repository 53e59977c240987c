"""Parts of `convert_release`: the original release's text lines and shards."""
