"""Region features in the forms of others: read into corpora, and written from them."""
