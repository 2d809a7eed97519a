# One-word verbs over the presets of CMakePresets.json. `make` is the daily loop; see CONTRIBUTING.md.
.PHONY: unit demo test asan tsan fuzz tidy format check bench parity release
unit:            ## build the torch-free part, run unit and simulator tests (make T=step_batcher: one of them)
	@tools/setup.sh dev
	@cmake --preset dev >/dev/null
ifdef T
	@cmake --build --preset dev --target $(T)_test -- --quiet
	@build/dev/bin/$(T)_test
else
	@cmake --build --preset dev -- --quiet
	@ctest --preset dev
endif

release:         ## build the programs: build/release/bin/image-variations-server and image-variations
	@tools/setup.sh release
	@cmake --preset release >/dev/null && cmake --build --preset release -- --quiet

demo: release    ## the main job from nothing: server, four variations of a picture, contact sheet
	@demo/run.sh

test: check unit release   ## everything: format, layers, unit, simulator, mutants, parity, system, README commands
	@tools/setup.sh deploy && cmake --build --preset mutants -- --quiet && ctest --preset mutants && ctest --preset release
	@tools/run_readme.sh

asan tsan:       ## the torch-free tests under AddressSanitizer + UBSan, or ThreadSanitizer
	@tools/setup.sh dev
	@cmake --preset $@ >/dev/null && cmake --build --preset $@ -- --quiet
	@ctest --preset $@

fuzz:            ## libFuzzer on what reads files, five minutes for each target
	@tools/fuzz.sh

tidy:            ## clang: thread-safety analysis, clang-tidy
	@tools/setup.sh tidy
	@cmake --preset tidy >/dev/null && cmake --build --preset tidy -- --quiet

check:           ## format and layers
	@tools/setup.sh dev
	@git ls-files '*.h' '*.cc' | xargs clang-format-14 --dry-run --Werror
	@python3 tools/check_layers.py

bench: release   ## every number of docs/performance.md, beside its peers, and the full-size ones of docs/parity.md; hours
	@tools/bench.sh

parity: release  ## the server's pictures against diffusers', into docs/parity.md; makes the full-size model, 6 GB
	@tools/setup.sh oracle
	@OMP_WAIT_POLICY=passive $(or $(VENV),.venv)/bin/python tools/parity.py --update-docs

format:          ## make the format right
	@git ls-files '*.h' '*.cc' | xargs clang-format-14 -i
