"""Encode films once for training, into shards of short pieces that are quick to read at random.

The road has four steps. Films are cut into spans, and spans gathered into work items of about ten minutes (`plan`);
each item is encoded in a process of its own (`items`, `encode`); what is kept, and in which shard it goes, is chosen
over all items (`selection`); each shard is packed (`shards`). Every step writes aside and renames, so that a run which
was killed goes on with the same command, and gives the same bytes. `run` is the way in. What runs in workers needs no
torch.
"""
