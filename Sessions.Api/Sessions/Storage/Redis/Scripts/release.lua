-- ARGV 6: token.
let_go(ARGV[6], held())
