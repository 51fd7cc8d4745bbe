"""Small synthetic corpora on real media, in the real corpora's layouts. Synthetic, and called so everywhere."""
