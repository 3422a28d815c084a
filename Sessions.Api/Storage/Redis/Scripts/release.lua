let_go()
