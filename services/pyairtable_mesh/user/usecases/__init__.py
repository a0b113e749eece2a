"""What can be done with users and groups. Access has been decided before; the rules of the schema hold."""
