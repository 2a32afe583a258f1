"""Tests of actlab, in a package because other installed packages can be named ``tests``, too."""
