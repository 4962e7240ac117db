"""From addresses to pages, image candidates and bytes: politely, safely, and the same each time."""
