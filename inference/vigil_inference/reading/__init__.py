"""What radiologists say of studies: kept as said, folded into readings, counted and exported."""
