"""How right an encoder or a U-Net is: measures, tables, the NoW protocol."""
