"""Results → reports, data files, pictures and the site."""
