"""nbgrader's settings for this course: copy it to the top of your course folder."""

import os

c = get_config()

c.CourseDirectory.course_id = "facerecon"

# What a student finds where the solution was; `check` reads it as "not attempted".
c.ClearSolutions.code_stub = {"python": "# YOUR CODE HERE\nraise NotImplementedError"}

# Seconds a cell may take while grading.
c.ExecutePreprocessor.timeout = 600

# Grade with the sizes that the stored outputs were made with.
os.environ["FACERECON_PROFILE"] = "smoke"
os.environ["OMP_NUM_THREADS"] = "1"

# With `nbgrader release_assignment` and `collect`: a folder that all students can write to.
# c.Exchange.root = "/srv/nbgrader/exchange"
