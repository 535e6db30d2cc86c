//! PromQL lexer, parser, syntax tree and printer.
