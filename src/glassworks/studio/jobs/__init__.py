"""Trainings, experiments and sweeps as command-line processes: started, watched and signalled here, never computed here."""
