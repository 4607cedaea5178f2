"""Numbers and judgement: measurements, intervals, claims and verdicts; numpy only."""
