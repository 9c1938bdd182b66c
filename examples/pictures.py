"""The README's pictures, made anew: photographs of the pages of 10_page.py by headless Chromium.

python examples/pictures.py
"""

import pathlib
import shutil
import subprocess
import sys
import tempfile

HERE = pathlib.Path(__file__).parent
FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
    "--hide-scrollbars",
    "--virtual-time-budget=3000",
]
SHOTS = {"page.png": ("two_by_two.html", "step=8&weight=1.0.1", "1366,800")}  # where from, at which place, how large


def main() -> None:
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    if chromium is None:
        raise SystemExit("The pictures are taken by Chromium, which is not installed: apt-get install chromium.")
    (HERE / "pictures").mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        subprocess.run([sys.executable, HERE / "10_page.py", "--folder", folder], check=True)
        for name, (page, place, size) in SHOTS.items():
            target = HERE / "pictures" / name
            address = f"{(pathlib.Path(folder) / page).as_uri()}#{place}"
            own = [f"--user-data-dir={folder}/profile", f"--screenshot={target}", f"--window-size={size}"]
            subprocess.run([chromium, *FLAGS, *own, address], check=True, stderr=subprocess.DEVNULL)
            print(f"{target}: {target.stat().st_size / 1000:.0f} KB")


if __name__ == "__main__":
    main()
