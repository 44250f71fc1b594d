"""Photos to shards: detection, crops, refusals, resumption."""
