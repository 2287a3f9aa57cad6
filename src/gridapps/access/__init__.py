"""Who is who: users, developers, access tags."""
