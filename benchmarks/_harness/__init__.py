"""What every benchmark shares: arguments, lines on disk, peers, timer, table."""

from ._commits import commit_now
from ._lines import append_line, key_of, read_lines, results_by_key
from ._memory import peak, reset_peak
from ._packing import pack, unpack
from ._peers import Peer, find_peer
from ._process import ROOT, in_process
from ._runs import RESULTS, Harness, environment, make_parser, median_time
from ._watch import Memory, Watch

__all__ = [
    "RESULTS",
    "ROOT",
    "Harness",
    "Memory",
    "Peer",
    "Watch",
    "append_line",
    "commit_now",
    "environment",
    "find_peer",
    "in_process",
    "key_of",
    "make_parser",
    "median_time",
    "pack",
    "peak",
    "read_lines",
    "reset_peak",
    "results_by_key",
    "unpack",
]
