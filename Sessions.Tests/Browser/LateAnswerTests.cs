using Microsoft.Playwright;
using static Microsoft.Playwright.Assertions;

namespace Sessions.Tests.Browser;

/// <summary>Answers that come late, for what is open no longer, in parts or not at all.</summary>
public sealed class LateAnswerTests(Chromium chromium)
{
    [Fact]
    public async Task A_turn_of_which_nobody_knows_what_became_is_not_made_twice()
    {
        await using var server = SessionsServer.Start([]);
        await using var console = await chromium.OpenAsync(server.Client.BaseAddress!);
        var page = console.Page;

        // A proxy that gives up, in two ways, after the server has made the turn.
        var statuses = new Queue<int>([504, 500]);
        await page.RouteAsync("**/query", async route =>
        {
            if (statuses.TryDequeue(out var status))
            {
                await route.FetchAsync();
                await route.FulfillAsync(new() { Status = status, Body = "<html>" });
            }
            else
            {
                await route.ContinueAsync();
            }
        });
        await console.GoAsync("chat");

        await console.SendAsync("hello");
        await page.GetByRole(AriaRole.Button, new() { Name = "Try again" }).ClickAsync();

        await Expect(page.Locator(".turn:not(.running, .failed) .answer")).ToContainTextAsync("hello");
        var session = (await server.GetAsync("/sessions")).Json["sessions"]!.AsArray().Single()!;
        Assert.Equal(["hello"], await server.HistoryAsync((string)session["session_id"]!));
        console.IsSound();
    }

    [Fact]
    public async Task Earlier_turns_come_until_there_are_no_more()
    {
        await using var server = SessionsServer.Start([]);

        // So many branches that the first turn is on the third page; what is shown is short all the while.
        await server.QueryAsync("the first", "s");
        for (var i = 0; i < 65; i++)
        {
            Assert.Equal(200, (await server.PostAsync("/query", new { query = $"branch {i}", thread_id = "s", after_turn = 1 })).Status);
        }

        await using var console = await chromium.OpenAsync(server.Client.BaseAddress!);
        await console.GoAsync("chat/s");

        await Expect(console.Page.Locator(".turn").First).ToContainTextAsync("the first");
        await Expect(console.Page.Locator(".turn")).ToHaveCountAsync(2);
        await Expect(console.Page.GetByText("Earlier turns")).ToHaveCountAsync(0);
        console.IsSound();
    }

    [Fact]
    public async Task What_comes_for_another_conversation_is_dropped()
    {
        await using var server = SessionsServer.Start([]);
        await server.QueryAsync("about the second", "second");
        await server.QueryAsync("about the first", "first");
        await using var console = await chromium.OpenAsync(server.Client.BaseAddress!);
        var page = console.Page;
        await console.GoAsync("chat/first");
        await Expect(page.Locator(".turn")).ToHaveCountAsync(1);
        var held = new TaskCompletionSource<IRoute>(TaskCreationOptions.RunContinuationsAsynchronously);
        await page.RouteAsync("**/sessions/first/history?*", held.SetResult, new() { Times = 1 });

        // The turn has ended, and is read; meanwhile another conversation is opened.
        await console.SendAsync("and more");
        var route = await held.Task;
        await page.Locator(".recent-list a", new() { HasText = "about the second" }).ClickAsync();
        await Expect(page.Locator("h1")).ToHaveTextAsync("about the second");
        await Expect(page.Locator(".turn")).ToHaveCountAsync(1);
        var late = await page.RunAndWaitForResponseAsync(() => route.ContinueAsync(), "**/sessions/first/history?*");
        await late.FinishedAsync();

        await console.AskAsync("what did I say?");

        Assert.Equal(["about the second", "what did I say?"], await server.HistoryAsync("second"));
        await Expect(page.Locator(".turn")).ToHaveCountAsync(2);
        await Expect(page.Locator("h1")).ToHaveTextAsync("about the second");
        console.IsSound();
    }

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public async Task A_query_that_waits_is_stopped_and_the_turn_before_it_is_not(bool isLeft)
    {
        await using var model = await ChatCompletionsServer.StartAsync();
        var letGo = new TaskCompletionSource(TaskCreationOptions.RunContinuationsAsynchronously);
        model.Reply = async (request, _, http) =>
        {
            switch (ChatCompletionsServer.Asked(request).Last())
            {
                case "another's":
                    await letGo.Task.WaitAsync(http.RequestAborted);
                    break;
                case "mine":
                    // Nothing but a stop ends it.
                    await Task.Delay(Timeout.Infinite, http.RequestAborted);
                    break;
            }

            await ChatCompletionsServer.AnswerAsync(http, "done");
        };
        await using var server = SessionsServer.Start(model.Agent("advanced"));
        await server.QueryAsync("first", "s");
        await using var console = await chromium.OpenAsync(server.Client.BaseAddress!);
        var page = console.Page;
        await console.GoAsync("chat/s");
        await Expect(page.Locator(".turn")).ToHaveCountAsync(1);
        var others = server.TryQueryAsync("another's", "s");
        await ServiceProcess.UntilAsync(() => model.Requests.Count == 2);
        await console.SendAsync("mine");
        await ServiceProcess.UntilAsync(() => server.Get<TurnGate>().Waiting == 1);

        await page.GetByRole(AriaRole.Button, new() { Name = "Stop" }).ClickAsync();
        await Expect(page.Locator(".working")).ToContainTextAsync("others are before it");
        if (isLeft)
        {
            await page.GetByRole(AriaRole.Link, new() { Name = "New conversation" }).ClickAsync();
            await Expect(page.Locator(".welcome")).ToBeVisibleAsync();
        }

        letGo.SetResult();

        Assert.Equal((200, "done"), ((await others).Status, (string?)(await others).Json["response"]));
        await ServiceProcess.UntilAsync(() => server.Get<StreamedTurns>().Running == 0);
        await Expect(page.GetByRole(AriaRole.Alert)).ToHaveCountAsync(isLeft ? 0 : 1);
        Assert.Equal(["first", "another's"], await server.HistoryAsync("s"));
        console.IsSound();
    }

    [Fact]
    public async Task The_list_of_conversations_is_of_whom_was_named_last()
    {
        var key = ApiKeys.NewKey();
        await using var server = SessionsServer.Start([("auth:mode", "api_key"), .. AuthTests.Setting("app", key, "service")]);
        foreach (var user in (string[])["ada", "bob"])
        {
            await server.PostAsync("/query", new { query = $"hello from {user}", user_id = user }, ("Authorization", $"Bearer {key}"));
        }

        await using var console = await chromium.OpenAsync(server.Client.BaseAddress!);
        var page = console.Page;
        var held = new TaskCompletionSource<IRoute>(TaskCreationOptions.RunContinuationsAsynchronously);
        await page.RouteAsync("**/users/ada/sessions?*", held.SetResult, new() { Times = 1 });
        await console.GoAsync("chat");
        await page.GetByLabel("API key or token").FillAsync(key);
        await page.GetByRole(AriaRole.Button, new() { Name = "Open" }).ClickAsync();

        // What fails late is not said over what came since.
        await ActForAsync(page, "nobody", "ada");
        var route = await held.Task;
        await ActForAsync(page, "ada", "bob");
        await Expect(page.Locator(".recent-list a")).ToContainTextAsync("hello from bob");
        await page.RunAndWaitForRequestFinishedAsync(() => route.FulfillAsync(new() { Status = 500, Body = "late" }),
            new() { Predicate = request => request.Url.Contains("/users/ada/sessions", StringComparison.Ordinal) });
        await Expect(page.Locator(".recent-list a")).ToContainTextAsync("hello from bob");

        await ActForAsync(page, "bob", "");
        await Expect(page.Locator(".recent-list a")).ToHaveCountAsync(0);
        await Expect(page.Locator(".recent-list")).ToContainTextAsync("once one is named");
        console.IsSound();
    }

    [Fact]
    public async Task Health_is_shown_while_the_store_is_away()
    {
        await using var server = SessionsServer.Start([], FaultySessionStore.Around);
        var store = server.Get<FaultySessionStore>();
        store.Fail("get_statistics", tookEffect: false, new StoreUnavailableException("On fire.", TimeSpan.FromSeconds(1)));
        await using var console = await chromium.OpenAsync(server.Client.BaseAddress!);
        var page = console.Page;
        await console.GoAsync("live");

        await Expect(page.GetByRole(AriaRole.Alert)).ToContainTextAsync("storage_unavailable");
        await Expect(page.Locator(".checks")).ToContainTextAsync("store");
        await Expect(page.Locator(".tiles")).ToContainTextAsync("Running turns");
        Assert.Equal(1, await page.GetByRole(AriaRole.Alert).CountAsync());

        store.Heal();
        await Expect(page.GetByRole(AriaRole.Alert)).ToHaveCountAsync(0);
        await Expect(page.Locator(".tiles")).ToContainTextAsync("in memory");
        console.IsSound();
    }

    private static async Task ActForAsync(IPage page, string before, string user)
    {
        await page.GetByRole(AriaRole.Button, new() { Name = before, Exact = true }).ClickAsync();
        await page.GetByRole(AriaRole.Dialog).GetByLabel("User").FillAsync(user);
        await page.GetByRole(AriaRole.Button, new() { Name = "Go on" }).ClickAsync();
    }
}
