# The book and its tests. Each command first makes .venv, or brings it up to date.
PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready
LAB_READY := .venv/.lab-ready

.PHONY: help book test lab notebooks student-notebooks assignments solutions stress refresh clean

help:
	@echo 'make book         build the site into _build/html'
	@echo 'make test         build the site, run every test and re-run every notebook'
	@echo 'make lab          open the notebooks in JupyterLab, with their statements and proofs set as in the book'
	@echo 'make notebooks    copy the notebooks to _build/notebooks, for plain Jupyter and Colab'
	@echo 'make student-notebooks  the same without the solutions of the exercises, in _build/student-notebooks'
	@echo 'make assignments  the problem sets for students, in _build/assignments (make book deletes it)'
	@echo 'make solutions    their executed solutions, for the instructor'
	@echo 'make stress       run the stress suites in full and store their records in tests/stress'
	@echo 'make refresh      execute all notebooks again and store their outputs'
	@echo 'make clean        delete the site and the caches (.venv stays)'

# The stamp is written last, so an interrupted install is taken up again.
$(READY): requirements.txt pyproject.toml
	@rm -f $@
	$(BIN)/python -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv --clear .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.txt
	@touch $@

# _build is deleted first: an incremental build hides the warnings of unchanged pages from -W.
book: $(READY)
	$(BIN)/python tools/run_times.py
	rm -rf _build
	$(BIN)/jupyter-book build . -n -W --keep-going
	@echo
	@echo 'The book is built. Serve it and open http://127.0.0.1:8000/book/index.html:'
	@echo '    $(BIN)/python -m http.server --bind 127.0.0.1 --directory _build/html'

test: book
	$(BIN)/python -m pytest

# The extension of JupyterLab comes only when asked for; the book and the tests do without.
$(LAB_READY): requirements-lab.txt $(READY)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements-lab.txt
	@touch $@

lab: $(LAB_READY)
	$(BIN)/jupyter lab --config=tools/jupyter_lab_config.py book

notebooks: $(READY)
	$(BIN)/python tools/portable.py

student-notebooks: $(READY)
	$(BIN)/python tools/portable.py --without-solutions

stress: $(READY)
	$(BIN)/python tests/run_stress.py

refresh: $(READY)
	$(BIN)/python tools/refresh.py

assignments: $(READY)
	$(BIN)/python assignments/problem_sets.py release

solutions: $(READY)
	$(BIN)/python assignments/problem_sets.py solutions

clean:
	rm -rf _build .cache .pytest_cache .hypothesis book/api.md book/statements.md book/status.md book/teaching/minutes.md
