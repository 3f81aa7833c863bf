"""How a student begins: inside the parameters of its teacher, once, before the first step."""
