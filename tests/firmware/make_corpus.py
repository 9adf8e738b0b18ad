"""Write tests/firmware/corpus: the parser's saved inputs, from the shared vectors and seeded damage."""

import json
import random
from pathlib import Path

HERE = Path(__file__).parent


def main() -> None:
    """Write the files; the same every time."""
    vectors = json.loads((HERE.parents[1] / "firmware" / "protocol" / "vectors.json").read_text())
    rng, folder = random.Random(7), HERE / "corpus"
    folder.mkdir(exist_ok=True)
    frames = [bytes.fromhex(row["frame"]) for row in vectors["frames"] if row["to"] == "base"]
    for number in range(24):
        data = bytearray(b"".join(rng.sample(frames, 6)))
        for _ in range(rng.randrange(8)):
            at = rng.randrange(len(data))
            choice = rng.randrange(3)
            if choice == 0:
                data[at] = rng.choice((0, 1, 0x7F, 0xFF, data[at] ^ 1))
            elif choice == 1:
                del data[at : at + rng.randrange(1, 5)]
            else:
                data[at:at] = rng.randbytes(rng.randrange(1, 90))
        (folder / f"{number:02d}.bin").write_bytes(bytes(data))


if __name__ == "__main__":
    main()
