"""Write the figures of docs/understand/segmentation.md, and print its tables: `make figures`."""

from pathlib import Path

from tests.figures.segmentation_page import PICTURES, TABLES

DIRECTORY = Path(__file__).parents[2] / "docs" / "understand" / "segmentation"

if __name__ == "__main__":
    DIRECTORY.mkdir(exist_ok=True)
    for name, draw in PICTURES.items():
        (DIRECTORY / name).write_text(draw(), encoding="utf-8")
        print(DIRECTORY / name)
    for what, table in TABLES.items():
        print(f"\n{what}:\n\n{table()}", end="")
