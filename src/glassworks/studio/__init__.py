"""The web studio: pages for people, answered by a small worker process; trainings run as commands of their own."""
