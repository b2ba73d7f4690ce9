"""Lets Hypothesis parse Python source in one thread at a time.

CPython 3.11 counts the depth of the syntax trees that all threads are building in one place, and a thread may be switched
from within one where something watches the garbage collector, as Hypothesis does. Two workers that describe their strategies
at once then fail with "AST constructor recursion depth mismatch", now and then; see also
https://github.com/python/cpython/issues/106905.
"""

import ast
import threading

parse_at_once = ast.parse
parsing = threading.RLock()


def parse(*arguments, **options):
    with parsing:
        return parse_at_once(*arguments, **options)


ast.parse = parse
