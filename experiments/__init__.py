"""The papers' tables as studies, and the measurements behind the README: commands whose results are committed."""
