# A line of text becomes a line of a C string literal.
s/\\/\\\\/g
s/"/\\"/g
s/.*/"&\\n"/
