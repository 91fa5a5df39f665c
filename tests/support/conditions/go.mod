module conditions

go 1.20

require github.com/expr-lang/expr v1.17.7
