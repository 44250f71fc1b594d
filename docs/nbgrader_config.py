"""nbgrader's settings for this course: copy it to the top of your course folder."""

import os

from nbgrader import preprocessors
from nbgrader.preprocessors import NbGraderPreprocessor

c = get_config()

c.CourseDirectory.course_id = "facerecon"

# What a student finds where the solution was; `check` reads it as "not attempted".
c.ClearSolutions.code_stub = {"python": "# YOUR CODE HERE\nraise NotImplementedError"}


class RemoveEmptyMarks(NbGraderPreprocessor):
    """Removes the marks of cells without a grade_id, at which nbgrader stops.

    nbgrader empties them where a cell was copied or split (the last of its cells stays marked) and
    takes the grade_id from a cell of another notebook.
    """

    def preprocess_cell(self, cell, resources, index):
        if not cell.metadata.get("nbgrader", {}).get("grade_id"):
            cell.metadata.pop("nbgrader", None)
        return cell, resources


c.Autograde.sanitize_preprocessors = [
    preprocessors.ClearOutput,
    preprocessors.DeduplicateIds,
    preprocessors.OverwriteKernelspec,
    preprocessors.OverwriteCells,
    RemoveEmptyMarks,
    preprocessors.CheckCellMetadata,
]

# Seconds a cell may take while grading.
c.ExecutePreprocessor.timeout = 600

# Grade with the sizes that the stored outputs were made with.
os.environ["FACERECON_PROFILE"] = "smoke"
os.environ["OMP_NUM_THREADS"] = "1"

# With `nbgrader release_assignment` and `collect`: a folder that all students can write to.
# c.Exchange.root = "/srv/nbgrader/exchange"
