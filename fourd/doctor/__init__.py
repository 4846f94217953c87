"""Is a copy of a labelled dataset complete and right? Counts, checks of decoded clips, pictures, a verdict."""
