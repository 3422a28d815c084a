using Microsoft.Playwright;
using static Microsoft.Playwright.Assertions;

namespace Sessions.Tests.Browser;

/// <summary>Conversations, in a browser.</summary>
public sealed class ChatTests(Chromium chromium)
{
    [Fact]
    public async Task A_conversation_is_streamed_stopped_edited_and_asked_again()
    {
        await using var model = await ScriptedModel.StartAsync();
        await using var server = SessionsServer.Start(model.Agent("advanced"));
        await using var console = await chromium.OpenAsync(server.Client.BaseAddress!);
        var page = console.Page;
        await console.GoAsync("chat");

        await console.AskAsync("say **bold** and `code`");
        await Expect(page.Locator(".answer strong")).ToHaveTextAsync("bold");
        await Expect(page.Locator(".meta")).ToContainTextAsync("test-model");
        await Expect(page.Locator(".recent-list [aria-current]")).ToContainTextAsync("say **bold**");

        // What is told is shown while it is told; a stopped answer is kept.
        await console.SendAsync("hold");
        await Expect(page.Locator(".turn.running .answer")).ToContainTextAsync("It begins");
        await page.GetByRole(AriaRole.Button, new() { Name = "Stop" }).ClickAsync();
        await Expect(page.Locator(".turn").Nth(1).Locator(".note")).ToContainTextAsync("Stopped");

        // Edited: another branch, and the way back.
        await page.Locator(".turn").Nth(1).HoverAsync();
        await page.GetByLabel("Edit the question").Nth(1).ClickAsync();
        await page.GetByLabel("The question", new() { Exact = true }).FillAsync("say something else");
        await page.GetByRole(AriaRole.Button, new() { Name = "Send" }).First.ClickAsync();
        await Expect(page.Locator(".branches")).ToContainTextAsync("2 / 2");
        await Expect(page.Locator(".turn").Nth(1).Locator(".answer")).ToContainTextAsync("something else");
        await page.GetByLabel("The branch before").ClickAsync();
        await Expect(page.Locator(".turn").Nth(1).Locator(".answer")).ToContainTextAsync("It begins");

        // What is asked there goes on there.
        await console.AskAsync("what did I say?");
        await Expect(page.Locator(".turn").Nth(2).Locator(".answer")).ToContainTextAsync("hold / what did I say?");

        // Asked again: a branch of the same question.
        await page.Locator(".turn").Nth(2).HoverAsync();
        await page.GetByLabel("Ask again").Nth(2).ClickAsync();
        await Expect(page.Locator(".turn").Nth(2).Locator(".branches")).ToContainTextAsync("2 / 2");
        console.IsSound();
    }

    [Fact]
    public async Task A_reload_goes_on_with_the_turn_that_runs()
    {
        await using var model = await ScriptedModel.StartAsync();
        await using var server = SessionsServer.Start(model.Agent("advanced"));
        await using var console = await chromium.OpenAsync(server.Client.BaseAddress!);
        await console.GoAsync("chat");
        await console.SendAsync("hold");
        await Expect(console.Page.Locator(".turn.running .answer")).ToContainTextAsync("It begins");

        await console.Page.ReloadAsync();
        await Expect(console.Page.Locator(".turn.running .answer")).ToContainTextAsync("It begins");
        model.LetGo();

        await Expect(console.Page.Locator(".turn:not(.running) .answer")).ToContainTextAsync("It begins");
        Assert.Single(model.Requests);
        console.IsSound();
    }

    [Theory]
    [InlineData("KILL")]
    [InlineData("TERM")]
    public async Task A_turn_outlives_a_restart_of_the_server(string signal)
    {
        await using var model = await ScriptedModel.StartAsync();
        using var folder = new TestFolder();
        var port = FreePort.Find();
        (string, string)[] environment =
        [
            ("ASPNETCORE_URLS", $"http://127.0.0.1:{port}"), ("CONSOLE__ENABLED", "true"),
            ("SESSIONS__STORAGE_TYPE", "sqlite"), ("SESSIONS__DB_PATH", folder["sessions.db"]), ("LIMITS__SHUTDOWN_SECONDS", "0.1"),
            .. model.Agent("advanced"),
        ];
        var server = ServiceProcess.Api(environment);
        try
        {
            await using var console = await chromium.OpenAsync(await server.AddressAsync());
            await console.GoAsync("chat");
            await console.AskAsync("say first");
            await console.SendAsync("hold");
            await Expect(console.Page.Locator(".turn.running .answer")).ToContainTextAsync("It begins");

            server.Signal(signal);
            await server.ExitAsync();
            await Expect(console.Page.Locator(".working")).ToContainTextAsync("connection was lost");
            await server.DisposeAsync();
            model.LetGo();
            server = ServiceProcess.Api(environment);
            await server.AddressAsync();

            await Expect(console.Page.Locator(".turn.running")).ToHaveCountAsync(0);
            await Expect(console.Page.Locator(".turn")).ToHaveCountAsync(2);
            await Expect(console.Page.Locator(".turn .answer").Nth(1)).ToContainTextAsync("It begins");
            console.IsSound();
        }
        finally
        {
            await server.DisposeAsync();
        }
    }

    [Fact]
    public async Task A_turn_whose_tools_may_have_run_is_not_run_again_by_itself()
    {
        await using var model = await ScriptedModel.StartAsync();
        await using var tools = await TestTools.StartAsync();
        var port = FreePort.Find();
        (string, string)[] environment =
        [
            ("ASPNETCORE_URLS", $"http://127.0.0.1:{port}"), ("CONSOLE__ENABLED", "true"), ("LIMITS__SHUTDOWN_SECONDS", "0.1"),
            .. model.Agent("advanced"), .. tools.Of("advanced"),
        ];
        var server = ServiceProcess.Api(environment);
        try
        {
            await using var console = await chromium.OpenAsync(await server.AddressAsync());
            await console.GoAsync("chat");
            await console.SendAsync("call hang 1");
            await tools.Hanging;

            await server.StopAsync();
            await server.DisposeAsync();
            server = ServiceProcess.Api(environment);
            await server.AddressAsync();

            await Expect(console.Page.GetByRole(AriaRole.Alert)).ToContainTextAsync("shutting_down");
            Assert.Equal(["hang"], tools.Calls);
            console.IsSound();
        }
        finally
        {
            await server.DisposeAsync();
        }
    }

    [Fact]
    public async Task A_failed_turn_says_why_and_can_be_tried_again()
    {
        await using var model = await ScriptedModel.StartAsync();
        await using var server = SessionsServer.Start(model.Agent("advanced"));
        await using var console = await chromium.OpenAsync(server.Client.BaseAddress!);
        await console.GoAsync("chat");

        await console.SendAsync("fail");
        await Expect(console.Page.GetByRole(AriaRole.Alert)).ToContainTextAsync("agent_failed");
        await console.Page.GetByRole(AriaRole.Button, new() { Name = "Try again" }).ClickAsync();
        await Expect(console.Page.GetByRole(AriaRole.Alert)).ToContainTextAsync("agent_failed");

        await console.AskAsync("say it works");
        console.IsSound();
    }

    [Fact]
    public async Task A_call_that_waits_is_answered_by_hand()
    {
        await using var server = SessionsServer.Start([]);
        await server.PostAsync("/sessions/s/turns", """{"query":"weather?","output":"""
            + """[{"type":"function_call","call_id":"c1","name":"get_weather","arguments":"{\"city\":\"Oslo\"}"}]}""");
        await using var console = await chromium.OpenAsync(server.Client.BaseAddress!);
        await console.GoAsync("chat/s");

        await console.Page.GetByLabel("Output of get_weather").FillAsync("rain");
        await console.Page.GetByRole(AriaRole.Button, new() { Name = "Append" }).ClickAsync();
        await Expect(console.Page.Locator(".waiting")).ToHaveCountAsync(0);
        await console.Page.Locator(".fold summary").ClickAsync();
        await Expect(console.Page.Locator(".fold .inside")).ToContainTextAsync("rain");
        await Expect(console.Page.Locator(".fold .inside")).ToContainTextAsync("Oslo");

        await console.AskAsync("thank you");
        console.IsSound();
    }

    [Fact]
    public async Task A_question_is_asked_for_the_user_that_was_named()
    {
        await using var server = SessionsServer.Start([]);
        await using var console = await chromium.OpenAsync(server.Client.BaseAddress!);
        await console.GoAsync("chat");
        await console.Page.GetByRole(AriaRole.Button, new() { Name = "nobody" }).ClickAsync();
        await console.Page.GetByLabel("User").FillAsync("ada");
        await console.Page.GetByRole(AriaRole.Button, new() { Name = "Go on" }).ClickAsync();

        await console.AskAsync("hello");

        Assert.Single((await server.GetAsync("/users/ada/sessions")).Json["sessions"]!.AsArray());
        console.IsSound();
    }

    [Fact]
    public async Task The_conversation_that_is_open_is_the_one_that_is_marked_in_the_list()
    {
        await using var server = SessionsServer.Start([]);
        foreach (var id in (string[])["first", "second"])
        {
            var appended = await server.PostAsync($"/sessions/{id}/turns", new { query = $"about the {id}", response = "yes" });
            Assert.Equal(201, appended.Status);
        }

        await using var console = await chromium.OpenAsync(server.Client.BaseAddress!);
        var marked = console.Page.Locator(".recent-list [aria-current]");
        await console.GoAsync("chat/first");
        await Expect(marked).ToContainTextAsync("about the first");

        await console.Page.Locator(".recent-list a", new() { HasText = "about the second" }).ClickAsync();
        await Expect(console.Page.Locator("h1")).ToHaveTextAsync("about the second");
        await Expect(marked).ToContainTextAsync("about the second");
        console.IsSound();
    }

    [Fact]
    public async Task Code_of_an_answer_is_copied_and_that_is_said()
    {
        await using var server = SessionsServer.Start([]);
        var appended = await server.PostAsync("/sessions/s/turns", new { query = "code?", response = "```sh\nls -l\n```" });
        Assert.Equal(201, appended.Status);
        await using var console = await chromium.OpenAsync(server.Client.BaseAddress!);
        await console.Page.Context.GrantPermissionsAsync(["clipboard-read", "clipboard-write"]);
        await console.GoAsync("chat/s");

        await console.ClickAsync(console.Page.GetByLabel("Copy code"), "Copied.");

        Assert.Equal("ls -l", await console.Page.EvaluateAsync<string>("() => navigator.clipboard.readText()"));
        console.IsSound();
    }
}
