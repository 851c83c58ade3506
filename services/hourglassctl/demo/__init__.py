"""`hourglass demo`: the whole pipeline on this machine, then an audit."""
