#!/bin/sh
# Makes .venv with everything that the Makefile's commands need; does nothing if it is there and up to date.
#
#   PYTHON      the interpreter, 3.10 to 3.12 (default: the first one that fits of python3, python3.12,
#               python3.11, python3.10). Unset, an up-to-date .venv is kept whatever Python made it.
#   DETECTRON2  what pip takes in place of the pinned detectron2: a git URL or a checkout (a relative path
#               counts from the repository root). Unset, the choice of the existing .venv is kept, so that
#               `make test` after `DETECTRON2=... make setup` uses what is there. `DETECTRON2= make setup`
#               goes back to the pinned one.
#
# The stamp is written last: a .venv without one, or with another one, is made anew from nothing.
# Exit status: 0 ready; 2 one line `error: ...` says what to do, and no .venv is left; 130 or 143 interrupted.
set -eu
cd "$(dirname "$0")/.."

stamp=.venv/setup-stamp
needed_kb=7340032 # 7 GB
describe='import sys; print("%d.%d.%d %s" % (sys.version_info[:3] + (getattr(sys, "_base_executable", sys.executable),)))'

fail() {
    echo "error: $*" >&2
    exit 2
}

fits() {
    case $1 in 3.10.* | 3.11.* | 3.12.*) ;; *) return 1 ;; esac
}

# Sets $version and $python, the interpreter itself: a shim, or the python of the .venv to be removed, will not do.
look_at() {
    answer=$("$1" -c "$describe" 2>/dev/null) || return 1
    version=${answer%% *}
    python=${answer#* }
}

find_python() {
    if [ -n "${PYTHON:-}" ]; then
        look_at "$PYTHON" || fail "PYTHON=$PYTHON does not run: name a Python 3.10, 3.11 or 3.12"
        fits "$version" || fail "PYTHON=$PYTHON is Python $version: name a Python 3.10, 3.11 or 3.12"
        return
    fi
    seen=
    for name in python3 python3.12 python3.11 python3.10; do
        look_at "$name" || continue
        if fits "$version"; then return; fi
        seen="$seen, $name is $version"
    done
    fail "no Python 3.10, 3.11 or 3.12 found${seen}: install one, or name it: PYTHON=/path/to/python3.11 make setup"
}

pip() {
    .venv/bin/python -m pip --quiet --disable-pip-version-check --no-input "$@"
}

sources=$(cat requirements/* setup.cfg | cksum)

# Why .venv cannot be used as it is; empty if it can.
reason="there is no .venv yet"
if [ -f "$stamp" ]; then
    { read -r old_version && read -r old_place && read -r old_detectron2 && read -r old_sources; } <"$stamp" || true
    DETECTRON2=${DETECTRON2-${old_detectron2#detectron2=}}
    reason=
    if [ "${old_sources:-}" != "$sources" ]; then
        reason="requirements/ or setup.cfg changed"
    elif [ "$old_place" != "$PWD" ]; then
        reason="the folder was $old_place when it was made"
    elif [ "$old_detectron2" != "detectron2=$DETECTRON2" ]; then
        reason="DETECTRON2 changed"
    elif ! .venv/bin/python -c '' 2>/dev/null; then
        reason="its Python is gone"
    elif [ -n "${PYTHON:-}" ]; then
        find_python
        [ "$version" = "$old_version" ] || reason="PYTHON is now $version, was $old_version"
    fi
    [ -n "$reason" ] || exit 0
elif [ -e .venv ]; then
    reason="a .venv without set-up's stamp is not complete"
fi
DETECTRON2=${DETECTRON2-}

find_python
"$python" -c 'import ensurepip, venv' 2>/dev/null ||
    fail "Python $version ($python) has no venv: install it (Debian, Ubuntu: apt install python${version%.*}-venv) and run again"

echo "setup: making .venv with Python $version ($reason)"
trap 'status=$?; [ $status -eq 0 ] || { rm -f "$stamp"; rm -rf .venv; }' EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP
rm -f "$stamp"
rm -rf .venv

free_kb=$(df -Pk . | awk 'NR == 2 { print $4 }')
[ "$free_kb" -ge "$needed_kb" ] ||
    fail "$((free_kb / 1024)) MB are free on the disk of $PWD, set-up needs $((needed_kb / 1024)): make room and run again"

clean="no .venv is left behind: put right what the message above names and run again"
"$python" -m venv .venv || fail "making .venv failed; $clean"

echo "setup: installing the pinned packages (about 5.5 GB, some minutes)"
pip install --constraint requirements/runtime.txt setuptools wheel &&
    pip install --no-build-isolation -r requirements/runtime.txt -r requirements/export.txt -r requirements/formats.txt \
        -r requirements/serving.txt -r requirements/track.txt -r requirements/app.txt -r requirements/dev.txt ||
    fail "pip could not install the pinned packages; $clean"

if [ -n "$DETECTRON2" ]; then
    echo "setup: building detectron2 from $DETECTRON2 (C++, some minutes)"
    pip install --no-deps --no-build-isolation "$DETECTRON2" ||
        fail "pip could not install detectron2 from $DETECTRON2; $clean"
else
    # The wheel is tagged for Python 3.10 alone; its Python code runs on 3.10 to 3.12. Its compiled part is not
    # needed, and `tools` does not belong at the top of site-packages.
    echo "setup: installing detectron2"
    packages=.venv/lib/python${version%.*}/site-packages
    pip install --no-deps --only-binary=:all: --python-version 3.10 --require-hashes --target "$packages" \
        -r requirements/detectron2.txt ||
        fail "pip could not install detectron2 (made for Linux on x86-64; elsewhere: DETECTRON2=<git URL or checkout>); $clean"
    rm -rf "$packages"/detectron2/_C*.so "$packages/tools"
fi

pip install --no-deps --no-build-isolation --editable . || fail "pip could not install this project; $clean"
.venv/bin/python -W ignore -c 'import hrnet_kpt, detectron2.modeling' || fail "the new environment cannot import detectron2; $clean"

printf '%s\n' "$version" "$PWD" "detectron2=$DETECTRON2" "$sources" >.venv/setup-stamp.new
mv .venv/setup-stamp.new "$stamp"
echo "setup: done"
