"""Quality of difference images on simulated pairs: noise, efficiency, false positives, residuals of stars, flux.

python -m benchmarks.quality --out quality.json            # six variants, five seeds each: half an hour
python -m benchmarks.quality --variants base nan --seeds 1
"""
