# As AMD's it needs bash: sourced by dash it fails.
XILINX_XRT=$(readlink -f "$(dirname "${BASH_SOURCE[0]}")") || return 1
export XILINX_XRT
export PATH="$XILINX_XRT/bin:$PATH"
echo "XILINX_XRT        : $XILINX_XRT"
