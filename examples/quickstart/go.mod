module github.com/simianhq/simian/examples/quickstart

go 1.26
