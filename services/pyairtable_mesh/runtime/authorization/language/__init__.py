"""The OpenFGA modelling language 1.1: syntax, parser, validation, printing, differences.

`syntax` is the immutable tree that everything else works on; `document` reads and writes its JSON form without a
grammar, which is how a process that only checks gets a schema; `parser` alone imports lark.
"""
