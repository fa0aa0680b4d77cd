"""What nbgrader needs to know about this course; it reads this file when it is called in this folder."""

c = get_config()  # noqa: F821, nbgrader provides it
c.CourseDirectory.course_id = "plbook"
c.Execute.timeout = 120  # seconds for a cell; the longest takes a few
c.Execute.extra_arguments = ["--HistoryManager.hist_file=:memory:", "--IPKernelApp.log_level=ERROR"]  # no note on TCP for each kernel
