module fpga.hybrid/lab/xgboost-fit

go 1.26.0

require github.com/ebitengine/purego v0.10.2
