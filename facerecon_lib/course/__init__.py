"""What a notebook's first cell imports: exercises, checks, the profile, progress."""

from .exercises import check as check
from .exercises import exercise as exercise
from .exercises import profile as profile
from .exercises import setup as setup
from .record import progress as progress
