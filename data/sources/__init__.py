"""Where the images of VTAB tasks come from: `raw` archives, a prepared `tfds` copy, the `noah` folder."""
