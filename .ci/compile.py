"""Compile what pip installed, with all cores, which pip does with one.

Tests of other packages are left out: nothing imports them. What cannot be compiled,
such as templates, is passed over, as pip does.
"""

import compileall
import re
import sysconfig

if __name__ == "__main__":
    compileall.compile_dir(
        sysconfig.get_path("purelib"),
        quiet=2,
        workers=0,
        rx=re.compile(r"[\\/]tests[\\/]"),
    )
